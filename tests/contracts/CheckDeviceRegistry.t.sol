// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IDeviceRegistrants} from "../../contracts/interfaces/IDeviceRegistrants.sol";
import {IDeviceRegistry} from "../../contracts/interfaces/IDeviceRegistry.sol";
import {IDeviceSites} from "../../contracts/interfaces/IDeviceSites.sol";
import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title Identities of the proofs: one Administrator, and gateways only
contract CheckIdentities {
    address public constant ADMINISTRATOR = address(0xAD);

    function standing(address account) external pure returns (bytes16, IIdentityRegistry.Kind, bool) {
        return ("administrator", IIdentityRegistry.Kind.Administrator, account == ADMINISTRATOR);
    }

    function kindOf(bytes16) external pure returns (IIdentityRegistry.Kind, bool) {
        return (IIdentityRegistry.Kind.Gateway, true);
    }
}

/// @title Properties of DeviceRegistry that every call but `register` preserves, proven by Halmos
/// @notice As in CheckBlockOTA: every sender, function and argument, from every storage that satisfies the check's
/// assumptions. Halmos follows each text of unknown content byte by byte, and the code of known contracts only. The
/// storage therefore has two registrants, a spec, a site with one range and a device that are written in `setUp`; their
/// accounts, suspensions and bans are unknown, and so are all other words. Texts in calls are fixed, lists have one item,
/// and a registrant's call is one of a registrant above or of none. Registrations are fuzzed: they differ from an import
/// in the signature and the form of the aliases. Keys of devices are fuzzed too.
contract CheckDeviceRegistry is HalmosCheck {
    uint64 private constant NUMBER = 256;
    bytes16 private constant SITE = "site one";
    bytes32 private constant SPEC = keccak256("thermo2");
    address private constant ADMINISTRATOR = address(0xAD);

    uint256 private constant ACCOUNT = type(uint160).max;
    uint256 private constant SUSPENDED = 1 << 200;
    /// @dev The bits of a device's word that a ban changes.
    uint256 private constant BAN = ~uint256(type(uint160).max);

    address private _registry;

    function setUp() external {
        bytes memory arguments = abi.encode(address(this), address(new CheckIdentities()));
        _registry = _deployWith(".build/forge/halmos/DeviceRegistry.sol/DeviceRegistry.json", arguments);
        IDeviceRegistry registry = IDeviceRegistry(_registry);
        registry.admitRegistrant("acme", abi.encodePacked(uint8(2), uint256(1)), address(0xA1));
        registry.admitRegistrant("bolt", abi.encodePacked(uint8(2), uint256(2)), address(0xB2));
        registry.giveBlocks(SITE, 1);
        registry.importSpec("acme", "thermo2", "", hex"30");
        registry.importThings(_things("one", abi.encode(uint256(1))));
        bytes32[] memory places = _places();
        uint256[] memory words = new uint256[](places.length);
        for (uint256 i = 0; i < places.length; ++i) words[i] = _word(places[i]);
        _fillWithAnything(_registry);
        for (uint256 i = 0; i < places.length; ++i) _store(places[i], words[i]);

        uint256 any = uint256(svm.createBytes32("accounts"));
        _store(_registrant(1), _word(_registrant(1)) & ~(ACCOUNT | SUSPENDED) | any & (ACCOUNT | SUSPENDED));
        any = uint256(svm.createBytes32("account of the other"));
        _store(_registrant(2), _word(_registrant(2)) & ~(ACCOUNT | SUSPENDED) | any & (ACCOUNT | SUSPENDED));
        uint256 ban = uint256(svm.createBytes32("ban"));
        vm.assume(uint8(ban >> 200) < 3);
        _store(_at(NUMBER, 13), _word(_at(NUMBER, 13)) & ~BAN | ban & BAN);
        _store(_at(uint32(1), 15), 1);
        _store(_registrant(0), 0);
    }

    function check_D1_namesAndAccountsStayWithTheirRegistrant(address sender, bytes32 name, address account) external {
        bytes memory data = _anyCall(sender);
        (uint256 index, uint256 held) = (_word(_at(name, 4)), _word(_at(account, 5)));
        vm.assume(_succeeds(sender, data));
        assert(_either(index == 0, _word(_at(name, 4)) == index));
        assert(_either(held == 0, _word(_at(account, 5)) == held));
    }

    function check_D1_aRegistrantKeepsItsKeyAndName(address sender) external {
        bytes memory data = _anyCall(sender);
        bytes32 at = _registrant(1);
        (uint256 first, uint256 key, uint256 name) = (_word(at), _word(_next(at, 1)), _word(_next(at, 2)));
        vm.assume(_succeeds(sender, data));
        assert(_both(_word(_next(at, 1)) == key, _word(_next(at, 2)) == name));
        assert(first & ~(ACCOUNT | SUSPENDED) == _word(at) & ~(ACCOUNT | SUSPENDED));
    }

    function check_D2_whoIsSuspendedOrReplacedChangesNothing(address sender) external {
        vm.assume(_both(sender != address(0), _both(sender != _ownerIn(0), sender != _ownerIn(1))));
        vm.assume(_both(sender != ADMINISTRATOR, !_both(_acts(sender, 1), !_isSuspended(1))));
        vm.assume(!_both(_acts(sender, 2), !_isSuspended(2)));
        bytes memory data = _anyCall(sender);
        assert(!_succeeds(sender, data));
    }

    function check_D3_aSpecNeverChanges(address sender, bytes32 specHash) external {
        bytes memory data = _anyCall(sender);
        bytes32 at = _next(keccak256(abi.encode(6)), 4);
        (uint256 name, uint256 facts, uint256 held) = (_word(at), _word(_next(at, 1)), _word(_at(specHash, 7)));
        vm.assume(_succeeds(sender, data));
        assert(_both(_word(at) == name, _word(_next(at, 1)) == facts));
        assert(_either(held == 0, _word(_at(specHash, 7)) == held));
    }

    function check_D4_onlyTheRegistrantChangesTheListOfASpec(address sender, bytes32 update) external {
        vm.assume(!_acts(sender, 1));
        bytes memory data = _anyCall(sender);
        bytes32 at = _next(keccak256(abi.encode(6)), 4);
        bytes32 position = keccak256(abi.encode(update, _next(at, 3)));
        (uint256 length, uint256 held) = (_word(_next(at, 2)), _word(position));
        uint256 first = _word(keccak256(abi.encode(_next(at, 2))));
        vm.assume(_succeeds(sender, data));
        assert(_both(_word(_next(at, 2)) == length, _word(position) == held));
        assert(_word(keccak256(abi.encode(_next(at, 2)))) == first);
    }

    function check_D5_aBlockIsGivenOnce(address sender, uint64 block_) external {
        bytes memory data = _anyCall(sender);
        uint256 count = _word(bytes32(uint256(8)));
        vm.assume(block_ <= count);
        uint32 site = _siteOf(block_);
        vm.assume(_succeeds(sender, data));
        assert(_siteOf(block_) == site);
        assert(_word(bytes32(uint256(8))) >= count);
    }

    function check_D5_theNumbersOfASiteOnlyRise(address sender) external {
        bytes memory data = _anyCall(sender);
        uint64 next = uint64(_word(_at(SITE, 9)) >> 64);
        vm.assume(_succeeds(sender, data));
        uint256 later = _word(_at(SITE, 9));
        assert(_either(later == 0, uint64(later >> 64) >= next));
    }

    /// @notice Entries under IOTRegistry's keys are never replaced: nonces, aliases, names of specs, registrants' keys. A
    /// spec with a record is known by its hash, because both are written together.
    function check_D7_whatIsTakenStaysTaken(address sender, bytes32 keyHash) external {
        bytes memory data = _anyCall(sender);
        uint256 word = _word(_at(keyHash, 2));
        vm.assume(word != 0);
        vm.assume(_either(keyHash != keccak256("Spec:pump"), _word(_at(keccak256("pump"), 7)) != 0));
        vm.assume(_succeeds(sender, data));
        assert(_word(_at(keyHash, 2)) == word);
    }

    function check_D8_onlyTheOwnerImports(address sender, bytes32 keyHash) external {
        vm.assume(sender != _ownerIn(0));
        bytes memory data = _anyCall(sender);
        uint256 word = _word(_at(keyHash, 2));
        vm.assume(_succeeds(sender, data));
        uint256 later = _word(_at(keyHash, 2));
        assert(_either(later == word, later >> 248 == 2));
    }

    function check_D9_aKeyStaysWithItsDevice(address sender, bytes32 keyHash) external {
        bytes memory data = _anyCall(sender);
        uint256 number = _word(_at(keyHash, 14));
        vm.assume(uint64(number) != 0);
        vm.assume(_succeeds(sender, data));
        assert(_word(_at(keyHash, 14)) == number);
    }

    function check_D10_onlyTheRegistrantAndTheOwnerReplaceAVersion(address sender) external {
        vm.assume(_both(sender != _ownerIn(0), !_acts(sender, 1)));
        bytes memory data = _anyCall(sender);
        uint256 word = _word(_at(NUMBER, 13));
        vm.assume(_succeeds(sender, data));
        assert(uint160(_word(_at(NUMBER, 13))) == uint160(word));
    }

    function check_D11_onlyThoseWhoMayBanChangeABan(address sender) external {
        vm.assume(_both(sender != _ownerIn(0), sender != ADMINISTRATOR));
        vm.assume(!_acts(sender, 1));
        bytes memory data = _anyCall(sender);
        uint256 word = _word(_at(NUMBER, 13));
        vm.assume(_succeeds(sender, data));
        assert(_word(_at(NUMBER, 13)) & BAN == word & BAN);
    }

    function check_D11_theRegistrantKeepsABanOfTheCity(address sender) external {
        vm.assume(_both(sender != _ownerIn(0), sender != ADMINISTRATOR));
        bytes memory data = _anyCall(sender);
        uint256 word = _word(_at(NUMBER, 13));
        vm.assume(uint8(word >> 200) == 2);
        vm.assume(_succeeds(sender, data));
        assert(_word(_at(NUMBER, 13)) & BAN == word & BAN);
    }

    function check_D12_aBatchNeverChanges(address sender) external {
        bytes memory data = _anyCall(sender);
        bytes32 at = keccak256(abi.encode(_at(uint32(1), 15)));
        (uint256 root, uint256 facts) = (_word(at), _word(_next(at, 1)));
        vm.assume(_succeeds(sender, data));
        assert(_both(_word(at) == root, _word(_next(at, 1)) == facts));
        assert(_word(_at(uint32(1), 15)) >= 1);
    }

    function check_D13_onlyTheOwnerAdmitsSuspendsAndGives(address sender, bytes32 name, bytes16 site) external {
        vm.assume(sender != _ownerIn(0));
        bytes memory data = _anyCall(sender);
        (uint256 first, uint256 known, uint256 given) = (
            _word(_registrant(1)),
            _word(_at(name, 4)),
            _word(bytes32(uint256(8)))
        );
        uint32 index = uint32(_word(_at(site, 9)));
        vm.assume(_succeeds(sender, data));
        assert(_both(_word(_registrant(1)) == first, _word(_at(name, 4)) == known));
        assert(_both(_word(bytes32(uint256(8))) == given, uint32(_word(_at(site, 9))) == index));
    }

    function check_D13_theOwnerChangesOnlyToThePendingOneWhoAccepts(address sender) external {
        (address owner, address pending) = (_ownerIn(0), _ownerIn(1));
        vm.assume(_both(owner != address(0), sender != address(0)));
        bytes memory data = _anyCall(sender);
        vm.assume(_succeeds(sender, data));
        address later = _ownerIn(0);
        assert(_both(later != address(0), _either(later == owner, _both(later == pending, sender == pending))));
    }

    /// @dev Must fail: proves that the assumption of D7 allows an import.
    /// @custom:halmos --early-exit
    function check_reachable_aThingIsImported(address sender, bytes32 keyHash) external {
        bytes memory data = _anyCall(sender);
        vm.assume(_word(_at(keyHash, 2)) == 0);
        vm.assume(_succeeds(sender, data));
        assert(_word(_at(keyHash, 2)) >> 248 != 3);
    }

    /// @dev Must fail: proves that a registrant that is not the owner can transfer its device.
    /// @custom:halmos --early-exit
    function check_reachable_aRegistrantTransfers(address sender) external {
        vm.assume(sender != _ownerIn(0));
        bytes memory data = _anyCall(sender);
        uint256 word = _word(_at(NUMBER, 13));
        vm.assume(_succeeds(sender, data));
        assert(uint160(_word(_at(NUMBER, 13))) == uint160(word));
    }

    /// @dev Must fail: proves that a registrant that is not the owner can ban.
    /// @custom:halmos --early-exit
    function check_reachable_aRegistrantBans(address sender) external {
        vm.assume(_both(sender != _ownerIn(0), sender != ADMINISTRATOR));
        bytes memory data = _anyCall(sender);
        vm.assume(uint8(_word(_at(NUMBER, 13)) >> 200) == 0);
        vm.assume(_succeeds(sender, data));
        assert(uint8(_word(_at(NUMBER, 13)) >> 200) == 0);
    }

    /// @dev Returns any writing call but `register`, and makes the sender an account of one of the registrants, or of
    /// none, if a registrant calls.
    function _anyCall(address sender) private returns (bytes memory data) {
        data = svm.createCalldata("DeviceRegistry");
        bytes4 selector = bytes4(data);
        vm.assume(selector != IDeviceRegistry.register.selector);
        bytes32 any = svm.createBytes32("any");
        address account = address(uint160(uint256(svm.createBytes32("account"))));
        if (selector == IDeviceRegistrants.admitRegistrant.selector) {
            data = abi.encodeCall(IDeviceRegistrants.admitRegistrant, ("coil", abi.encodePacked(uint8(3), any), account));
        } else if (selector == IDeviceRegistrants.importSpec.selector) {
            data = abi.encodeCall(IDeviceRegistrants.importSpec, ("acme", "pump", "data", hex"30"));
        } else if (selector == IDeviceRegistry.importThings.selector) {
            data = abi.encodeCall(IDeviceRegistry.importThings, (_things("two", abi.encode(any))));
        } else if (selector == IDeviceSites.giveBlocks.selector) {
            data = abi.encodeCall(IDeviceSites.giveBlocks, (bytes16(any), 1));
        } else {
            data = _callOfARegistrant(sender, data, any, account);
        }
    }

    function _callOfARegistrant(
        address sender,
        bytes memory data,
        bytes32 any,
        address account
    ) private returns (bytes memory) {
        bytes4 selector = bytes4(data);
        if (selector == IDeviceRegistrants.registerSpec.selector) {
            data = abi.encodeCall(IDeviceRegistrants.registerSpec, ("pump", "data"));
        } else if (selector == IDeviceRegistrants.allow.selector) {
            data = abi.encodeCall(IDeviceRegistrants.allow, (SPEC, uint64(uint256(any)), account, "app"));
        } else if (selector == IDeviceRegistrants.disallow.selector) {
            data = abi.encodeCall(IDeviceRegistrants.disallow, (SPEC, uint64(uint256(any)), account, "app"));
        } else if (selector == IDeviceRegistry.registerBatch.selector) {
            data = abi.encodeCall(IDeviceRegistry.registerBatch, (SPEC, SITE, uint64(uint256(any)), any));
        } else if (selector == IDeviceRegistry.setKey.selector) {
            data = abi.encodeCall(IDeviceRegistry.setKey, (NUMBER, any, svm.createBytes32("keyY")));
        } else if (selector == IDeviceRegistry.transfer.selector) {
            data = abi.encodeCall(IDeviceRegistry.transfer, (NUMBER, "bolt"));
        } else if (selector == IDeviceRegistry.ban.selector) {
            data = abi.encodeCall(IDeviceRegistry.ban, (NUMBER, any));
        } else if (selector == IDeviceRegistry.unban.selector) {
            data = abi.encodeCall(IDeviceRegistry.unban, (NUMBER));
        } else {
            return data;
        }
        uint256 choice = uint256(svm.createBytes32("registrant"));
        if (choice == 1) _store(_at(sender, 5), 1);
        else if (choice == 2) _store(_at(sender, 5), 2);
        else _store(_at(sender, 5), 0);
        return data;
    }

    function _succeeds(address sender, bytes memory data) private returns (bool done) {
        vm.prank(sender);
        (done, ) = _registry.call(data);
    }

    function _things(
        string memory aliasText,
        bytes memory nonce
    ) private pure returns (IDeviceRegistry.ImportedThing[] memory things) {
        things = new IDeviceRegistry.ImportedThing[](1);
        IDeviceRegistry.Registration memory thing = things[0].thing;
        thing.registrant = "acme";
        thing.nonce = nonce;
        thing.aliases = new string[](1);
        thing.aliases[0] = aliasText;
        (thing.spec, thing.site) = ("thermo2", SITE);
        things[0].signature = hex"30";
    }

    /// @dev The words that `setUp` writes and keeps: registrants, their names, the spec, the site, the device, and the
    /// lengths of lists.
    function _places() private pure returns (bytes32[] memory places) {
        places = new bytes32[](20);
        for (uint256 i = 0; i < 3; ++i) {
            places[i] = _next(_registrant(1), i);
            places[3 + i] = _next(_registrant(2), i);
        }
        (places[6], places[7]) = (_at(bytes32("acme"), 4), _at(bytes32("bolt"), 4));
        bytes32 spec = _next(keccak256(abi.encode(6)), 4);
        (places[8], places[9], places[10]) = (spec, _next(spec, 1), _at(SPEC, 7));
        (places[11], places[12]) = (_at(SITE, 9), _at(uint32(1), 11));
        (places[13], places[14]) = (_at(NUMBER, 13), bytes32(uint256(3)));
        (places[15], places[16]) = (bytes32(uint256(6)), bytes32(uint256(8)));
        (places[17], places[18]) = (bytes32(uint256(10)), keccak256(abi.encode(10)));
        places[19] = _at(uint256(0), 12);
    }

    /// @dev Whether an account is the present one of a registrant.
    function _acts(address account, uint256 index) private view returns (bool) {
        return address(uint160(_word(_registrant(index)))) == account;
    }

    function _isSuspended(uint256 index) private view returns (bool) {
        return _word(_registrant(index)) & SUSPENDED != 0;
    }

    function _siteOf(uint64 block_) private view returns (uint32) {
        return uint32(_word(_at(uint256(block_ / 8), 12)) >> (32 * (block_ % 8)));
    }

    function _registrant(uint256 index) private pure returns (bytes32) {
        return _next(keccak256(abi.encode(3)), 3 * index);
    }

    function _at(uint256 key, uint256 slot) private pure returns (bytes32) {
        return keccak256(abi.encode(key, slot));
    }

    function _at(address key, uint256 slot) private pure returns (bytes32) {
        return keccak256(abi.encode(key, slot));
    }

    function _at(bytes32 key, uint256 slot) private pure returns (bytes32) {
        return keccak256(abi.encode(key, slot));
    }

    function _next(bytes32 at, uint256 count) private pure returns (bytes32) {
        return bytes32(uint256(at) + count);
    }

    function _store(bytes32 at, uint256 word) private {
        vm.store(_registry, at, bytes32(word));
    }

    function _word(bytes32 at) private view returns (uint256) {
        return uint256(vm.load(_registry, at));
    }

    function _ownerIn(uint256 slot) private view returns (address) {
        return address(uint160(_word(bytes32(slot))));
    }
}
