// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Registrants of devices, and the specifications of their models
/// @notice A registrant is a producer that the city's Safe admitted. A registrant registers one spec for each model, and
/// lists for each spec the ⟨chain, BlockOTA, product⟩ triples that may update devices of this model. Gateways offer
/// nothing else to a device.
/// @dev Part of `IDeviceRegistry`. Names of registrants have 1 to 31 visible ASCII characters without "/", padded with
/// zeros. A spec is identified by its hash, keccak256 of its name.
interface IDeviceRegistrants {
    /// @notice A registrant as returned by the getters.
    /// @param name Name, the first part of the aliases of its devices; 0 if the registrant does not exist.
    /// @param account Account that signs registrations and sends the registrant's transactions.
    /// @param suspended True while the Safe suspends the registrant.
    /// @param since Time of the admission.
    /// @param publicKey Compressed secp256k1 key, by which IOTRegistry identifies the registrant.
    struct Registrant {
        bytes32 name;
        address account;
        bool suspended;
        uint40 since;
        bytes publicKey;
    }

    /// @notice A spec as returned by the getters.
    /// @param specHash keccak256 of the name; 0 if the spec does not exist.
    /// @param registrant Name of the registrant.
    /// @param name Name of the spec, which is the model's name.
    /// @param imported True if the Safe imported the spec from IOTRegistry.
    /// @param signature IOTRegistry's original signature of an imported spec, else empty.
    /// @param record IOTRegistry's record of the spec: protobuf Spec{Data: 1, RegistrantPubkey: 2}.
    struct Spec {
        bytes32 specHash;
        bytes32 registrant;
        string name;
        bool imported;
        bytes signature;
        bytes record;
    }

    /// @notice A product whose releases may update the devices of a spec.
    /// @param chain Chain id of the producer chain.
    /// @param blockOta Address of BlockOTA on that chain.
    /// @param allowed False after `disallow`.
    /// @param product Name of the product.
    struct Update {
        uint64 chain;
        address blockOta;
        bool allowed;
        bytes32 product;
    }

    /// @notice The Safe admitted a registrant.
    event RegistrantAdmitted(bytes32 indexed name, address indexed account, bytes publicKey);

    /// @notice The Safe suspended a registrant.
    event RegistrantSuspended(bytes32 indexed name);

    /// @notice The Safe ended the suspension of a registrant.
    event RegistrantRestored(bytes32 indexed name);

    /// @notice The Safe replaced the account of a registrant.
    event RegistrantAccountChanged(bytes32 indexed name, address indexed account);

    /// @notice A spec was registered, or imported from IOTRegistry.
    event SpecRegistered(bytes32 indexed specHash, bytes32 indexed registrant, string name, bool imported);

    /// @notice A product may update the devices of a spec.
    event UpdateAllowed(bytes32 indexed specHash, uint64 chain, address blockOta, bytes32 product);

    /// @notice A product may no longer update the devices of a spec.
    event UpdateDisallowed(bytes32 indexed specHash, uint64 chain, address blockOta, bytes32 product);

    /// @notice The name is empty, longer than 31 characters, or has characters other than visible ASCII; or it is the
    /// name of a registrant and has a "/".
    error NameInvalid(bytes32 name);

    /// @notice The key is not a compressed secp256k1 key: 33 bytes, of which the first is 2 or 3.
    error PublicKeyInvalid(bytes publicKey);

    /// @notice The registrant's key belongs to a registrant already.
    error PublicKeyTaken(bytes publicKey);

    /// @notice The account is 0.
    error AccountMissing();

    /// @notice The account belongs, or belonged, to a registrant.
    error RegistrantAccountTaken(address account, bytes32 name);

    /// @notice A registrant has this name.
    error RegistrantKnown(bytes32 name);

    /// @notice No registrant has this name.
    error RegistrantUnknown(bytes32 name);

    /// @notice The registrant is suspended already, or is not suspended.
    error SuspensionUnchanged(bytes32 name, bool suspended);

    /// @notice The registrant is suspended, and may not write.
    error RegistrantIsSuspended(bytes32 name);

    /// @notice The caller is not the account of a registrant.
    error NotARegistrant(address caller);

    /// @notice The spec belongs to another registrant.
    error SpecOfAnotherRegistrant(bytes32 specHash, bytes32 registrant);

    /// @notice A spec has this name.
    error SpecKnown(string specName);

    /// @notice No spec has this hash.
    error SpecUnknown(bytes32 specHash);

    /// @notice The name of a spec is empty, longer than 64 bytes, or has a "/"; or it is not imported and has characters
    /// other than visible ASCII.
    error SpecNameInvalid(string specName);

    /// @notice A text is longer than `limit` bytes.
    error TextTooLong(uint256 length, uint256 limit);

    /// @notice The signature of IOTRegistry is empty or longer than `limit` bytes.
    error SignatureLengthInvalid(uint256 length, uint256 limit);

    /// @notice The chain id or the address of BlockOTA is 0.
    error UpdateInvalid(uint64 chain, address blockOta);

    /// @notice The product is on the list of the spec already, or is not on the list.
    error UpdateUnchanged(bytes32 specHash, uint64 chain, address blockOta, bytes32 product, bool allowed);

    /// @notice Admits a producer as a registrant.
    /// @param name Name of the registrant.
    /// @param publicKey Compressed secp256k1 key.
    /// @param account Account of the registrant.
    /// @dev Emits `RegistrantAdmitted`. Only the owner may call it. Reverts with `NameInvalid`, `PublicKeyInvalid`,
    /// `RegistrantKnown`, `PublicKeyTaken`, `AccountMissing` or `RegistrantAccountTaken`.
    function admitRegistrant(bytes32 name, bytes calldata publicKey, address account) external;

    /// @notice Suspends a registrant: it cannot write, and its signatures are refused. Its devices stay registered.
    /// @param name Name of the registrant.
    /// @dev Emits `RegistrantSuspended`. Only the owner may call it. Reverts with `RegistrantUnknown` or
    /// `SuspensionUnchanged`.
    function suspendRegistrant(bytes32 name) external;

    /// @notice Ends the suspension of a registrant.
    /// @param name Name of the registrant.
    /// @dev Emits `RegistrantRestored`. Only the owner may call it. Reverts with `RegistrantUnknown` or
    /// `SuspensionUnchanged`.
    function restoreRegistrant(bytes32 name) external;

    /// @notice Replaces the account of a registrant, for example after the loss of a key. Signatures of the former
    /// account are refused from then on.
    /// @param name Name of the registrant.
    /// @param account An account that never belonged to a registrant.
    /// @dev Emits `RegistrantAccountChanged`. Only the owner may call it. Reverts with `RegistrantUnknown`,
    /// `AccountMissing` or `RegistrantAccountTaken`.
    function setRegistrantAccount(bytes32 name, address account) external;

    /// @notice Registers the spec of a model. The caller becomes its registrant.
    /// @param name Name of the spec, unique among all registrants: 1 to 64 visible ASCII characters without "/".
    /// @param data Text of the spec, at most 2,048 bytes. The contract does not interpret it.
    /// @dev Emits `SpecRegistered`. Only the account of a registrant may call it. Reverts with `NotARegistrant`,
    /// `RegistrantIsSuspended`, `SpecNameInvalid`, `SpecKnown` or `TextTooLong`.
    function registerSpec(string calldata name, string calldata data) external;

    /// @notice Imports a spec from IOTRegistry with its original signature.
    /// @param registrant Name of the registrant.
    /// @param name Name of the spec: 1 to 64 bytes without "/".
    /// @param data Text of the spec, at most 2,048 bytes.
    /// @param signature IOTRegistry's signature, 1 to 255 bytes. The contract does not verify it.
    /// @dev Emits `SpecRegistered`. Only the owner may call it. Reverts with `SignatureLengthInvalid`,
    /// `RegistrantUnknown`, `SpecNameInvalid`, `SpecKnown` or `TextTooLong`.
    function importSpec(
        bytes32 registrant,
        string calldata name,
        string calldata data,
        bytes calldata signature
    ) external;

    /// @notice Allows a product to update the devices of a spec.
    /// @param specHash Hash of the spec.
    /// @param chain Chain id of the producer chain.
    /// @param blockOta Address of BlockOTA on that chain.
    /// @param product Name of the product.
    /// @dev Emits `UpdateAllowed`. Only the spec's registrant may call it. Reverts with `NotARegistrant`,
    /// `RegistrantIsSuspended`, `SpecUnknown`, `SpecOfAnotherRegistrant`, `UpdateInvalid`, `NameInvalid` or
    /// `UpdateUnchanged`.
    function allow(bytes32 specHash, uint64 chain, address blockOta, bytes32 product) external;

    /// @notice Ends a permission that `allow` gave.
    /// @param specHash Hash of the spec.
    /// @param chain Chain id of the producer chain.
    /// @param blockOta Address of BlockOTA on that chain.
    /// @param product Name of the product.
    /// @dev Emits `UpdateDisallowed`. Only the spec's registrant may call it. Reverts with `NotARegistrant`,
    /// `RegistrantIsSuspended`, `SpecUnknown`, `SpecOfAnotherRegistrant` or `UpdateUnchanged`.
    function disallow(bytes32 specHash, uint64 chain, address blockOta, bytes32 product) external;

    /// @notice Whether a product may update the devices of a spec.
    /// @param specHash Hash of the spec.
    /// @param chain Chain id of the producer chain.
    /// @param blockOta Address of BlockOTA on that chain.
    /// @param product Name of the product.
    /// @return answer True if the product is on the spec's list. False for an unknown spec.
    function allows(
        bytes32 specHash,
        uint64 chain,
        address blockOta,
        bytes32 product
    ) external view returns (bool answer);

    /// @notice Returns a page of the list of a spec, in the order of the first `allow`.
    /// @param specHash Hash of the spec.
    /// @param from Number of entries to skip.
    /// @param count Maximum number of entries.
    /// @return list The page, with the entries that `disallow` ended.
    function updates(bytes32 specHash, uint256 from, uint256 count) external view returns (Update[] memory list);

    /// @notice Returns a registrant by its name.
    /// @param name Name of the registrant.
    /// @return record The registrant, or an empty record.
    function registrant(bytes32 name) external view returns (Registrant memory record);

    /// @notice Returns a registrant by an account of it, present or former.
    /// @param account The account.
    /// @return record The registrant, whose present account may be another, or an empty record.
    function registrantOf(address account) external view returns (Registrant memory record);

    /// @notice Returns a page of all registrants in the order of their admission.
    /// @param from Number of registrants to skip.
    /// @param count Maximum number of records.
    /// @return records The page.
    function registrants(uint256 from, uint256 count) external view returns (Registrant[] memory records);

    /// @notice Returns a spec.
    /// @param specHash Hash of the spec.
    /// @return record The spec, or an empty record.
    function spec(bytes32 specHash) external view returns (Spec memory record);

    /// @notice Returns a page of all specs in the order of their registration.
    /// @param from Number of specs to skip.
    /// @param count Maximum number of records.
    /// @return records The page.
    function specs(uint256 from, uint256 count) external view returns (Spec[] memory records);
}
