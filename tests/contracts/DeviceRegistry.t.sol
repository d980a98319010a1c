// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IDeviceRegistrants} from "../../contracts/interfaces/IDeviceRegistrants.sol";
import {IDeviceRegistry} from "../../contracts/interfaces/IDeviceRegistry.sol";
import {DeviceRegistryHandler} from "./DeviceRegistryHandler.sol";
import {IWholeDeviceRegistry} from "./DeviceScene.sol";
import {ForgeTest} from "./Forge.sol";

/// @title The numbered invariants of DeviceRegistry, checked after random calls of the handler
/// @dev One campaign an invariant is enough beside the walk; the profile `deep` runs as many as for other contracts.
/// forge-config: default.invariant.runs = 1
/// forge-config: deep.invariant.runs = 64
contract DeviceRegistryInvariants is ForgeTest {
    DeviceRegistryHandler private _handler;
    IWholeDeviceRegistry private _registry;

    function setUp() external {
        _handler = new DeviceRegistryHandler();
        _registry = _handler.registry();
    }

    /// @notice Restricts Foundry to calls of the handler.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @notice A fixed sequence of actions, so that coverage does not depend on the seed.
    function test_theInvariantsHoldAlongAWalk() external {
        for (uint256 i = 0; i < 500; ++i) {
            _step(_mix(i, "action"), _mix(i, "who"), _mix(i, "which"), _mix(i, "seed"));
            if (i % 100 != 99) continue;
            this.invariant_D1_registrantsKeepNameKeyAndAccounts();
            this.invariant_D3_specsNeverChange();
            this.invariant_D4_aListIsWhatItsRegistrantMadeIt();
            this.invariant_D5_numbersAreThoseOfTheSitesBlocks();
            this.invariant_D7_devicesKeepNamesAndSpec();
            this.invariant_D9_aKeyBelongsToOneDevice();
            this.invariant_D12_batchesStay();
        }
        require(_handler.things().length > 20, "the walk registers too little");
        require(_handler.lots().length != 0, "the walk registers no batch");
    }

    function invariant_D1_registrantsKeepNameKeyAndAccounts() external view {
        uint256 admitted = 0;
        for (uint256 i = 0; i < _handler.PARTIES(); ++i) {
            DeviceRegistryHandler.Party memory party = _handler.partyAt(i);
            IDeviceRegistrants.Registrant memory found = _registry.registrant(party.name);
            require((found.name == party.name) == party.admitted, "D1: admitted");
            if (!party.admitted) continue;
            ++admitted;
            require(keccak256(found.publicKey) == keccak256(party.publicKey), "D1: key");
            require(found.suspended == party.suspended, "D1: suspended");
            require(_handler.partyOf(found.account) == i + 1, "D1: account");
        }
        require(_registry.registrants(0, 9).length == admitted, "D1: all");
        for (uint256 i = 0; i < 5; ++i) {
            address account = _handler.accountAt(i);
            uint256 party = _handler.partyOf(account);
            bytes32 name = party == 0 ? bytes32(0) : _handler.partyAt(party - 1).name;
            require(_registry.registrantOf(account).name == name, "D1: by account");
        }
    }

    /// @notice Former accounts and accounts of suspended registrants are refused, whatever they call.
    function invariant_D2_onlyPresentRegistrantsWrite() external {
        for (uint256 i = 0; i < 5; ++i) {
            address account = _handler.accountAt(i);
            IDeviceRegistrants.Registrant memory found = _registry.registrantOf(account);
            if (found.account == account && !found.suspended) continue;
            bytes memory refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, account);
            if (found.account == account) {
                refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantIsSuspended.selector, found.name);
            }
            _expect(account, address(_registry), abi.encodeCall(_registry.registerSpec, ("new", "")), refusal);
        }
    }

    function invariant_D3_specsNeverChange() external view {
        uint256 known = 0;
        for (uint256 i = 0; i < _handler.MODELS(); ++i) {
            DeviceRegistryHandler.Model memory model = _handler.modelAt(i);
            bytes32 specHash = keccak256(bytes(model.name));
            IDeviceRegistrants.Spec memory found = _registry.spec(specHash);
            require((found.specHash == specHash) == (model.registrant != 0), "D3: known");
            if (model.registrant == 0) continue;
            ++known;
            DeviceRegistryHandler.Party memory party = _handler.partyAt(model.registrant - 1);
            require(found.registrant == party.name && found.imported == model.imported, "D3: registrant");
            require(keccak256(bytes(found.name)) == specHash, "D3: name");
            bytes memory record = abi.encodePacked(hex"0a04", "data", hex"1242", _hexText(party.publicKey));
            require(keccak256(found.record) == keccak256(record), "D3: record");
        }
        require(_registry.specs(0, 9).length == known, "D3: all");
    }

    function invariant_D4_aListIsWhatItsRegistrantMadeIt() external view {
        for (uint256 spec = 0; spec < _handler.MODELS(); ++spec) {
            bytes32 specHash = keccak256(bytes(_handler.modelAt(spec).name));
            uint256 listed = 0;
            for (uint256 update = 0; update < _handler.UPDATES(); ++update) {
                (uint64 chain, address blockOta, bytes32 product) = _handler.updateOf(update);
                bool allowed = _handler.allowed(spec, update);
                require(_registry.allows(specHash, chain, blockOta, product) == allowed, "D4: allows");
                if (allowed) ++listed;
            }
            IDeviceRegistrants.Update[] memory list = _registry.updates(specHash, 0, 9);
            for (uint256 i = 0; i < list.length; ++i) if (list[i].allowed) --listed;
            require(listed == 0 && list.length <= _handler.UPDATES(), "D4: list");
        }
    }

    function invariant_D5_numbersAreThoseOfTheSitesBlocks() external view {
        uint256[] memory words = new uint256[](1);
        require(_registry.blockCount() == _handler.blocks(), "D5: count");
        for (uint256 i = 0; i < _handler.blocks(); ++i) {
            words[0] = i + 1;
            for (uint256 site = 0; site < _handler.SITES(); ++site) {
                bool owns = _handler.siteOfBlock(i) == site + 1;
                require(_registry.ownsBlocks(_handler.uuids(site), words) == owns, "D5: owns");
                require((_registry.siteOf(uint64(256 * words[0])) == _handler.uuids(site)) == owns, "D5: site of");
            }
        }
        for (uint256 site = 0; site < _handler.SITES(); ++site) {
            require(_registry.site(_handler.uuids(site)).left == _handler.leftOf(site), "D5: left");
        }
    }

    /// @notice A native device is named by the registrant who registered it and its spec; others are imported.
    function invariant_D6_nativeNamesHaveTheirForm() external view {
        DeviceRegistryHandler.Thing[] memory things = _handler.things();
        for (uint256 i = 0; i < things.length; ++i) {
            IDeviceRegistry.Generation[] memory all = _registry.generations(things[i].number);
            bytes memory beginning = abi.encodePacked(all[all.length - 1].registrant);
            bytes memory name = bytes(things[i].firstAlias);
            bool own = name[0] == beginning[0] && name[3] == beginning[3] && name[4] == "/";
            require(own || _registry.device(things[i].number).imported, "D6");
        }
    }

    function invariant_D7_devicesKeepNamesAndSpec() external view {
        DeviceRegistryHandler.Thing[] memory things = _handler.things();
        for (uint256 i = 0; i < things.length; ++i) {
            DeviceRegistryHandler.Thing memory thing = things[i];
            DeviceRegistryHandler.Party memory party = _handler.partyAt(thing.registrant);
            IDeviceRegistry.Device memory found = _registry.device(thing.number);
            bytes memory spec = bytes(_handler.modelAt(thing.spec).name);
            require(found.number == thing.number && found.specHash == keccak256(spec), "D7: spec");
            require(keccak256(found.nonce) == keccak256(thing.nonce), "D7: nonce");
            require(_registry.numberOf(thing.firstAlias) == thing.number, "D7: alias");
            bytes memory record = abi.encodePacked(
                hex"0a",
                uint8(bytes(thing.firstAlias).length),
                thing.firstAlias,
                hex"1242",
                _hexText(party.publicKey),
                hex"22",
                uint8(spec.length),
                spec
            );
            require(keccak256(found.record) == keccak256(record), "D7: record");
        }
    }

    function invariant_D8_importsKeepTheirSignature() external view {
        DeviceRegistryHandler.Thing[] memory things = _handler.things();
        for (uint256 i = 0; i < things.length; ++i) {
            IDeviceRegistry.Device memory found = _registry.device(things[i].number);
            require(found.imported == things[i].imported, "D8");
            require(found.signature.length == (things[i].imported ? 8 : 0), "D8: signature");
        }
    }

    function invariant_D9_aKeyBelongsToOneDevice() external view {
        for (uint256 i = 0; i < _handler.DEVICE_KEYS(); ++i) {
            (bytes32 x, bytes32 y) = _handler.deviceKeyAt(i);
            require(_registry.numberOfKey(x, y) == _handler.deviceOfKey(i), "D9: owner");
        }
        DeviceRegistryHandler.Thing[] memory things = _handler.things();
        for (uint256 i = 0; i < things.length; ++i) {
            require(keccak256(_registry.device(things[i].number).key) == keccak256(things[i].key), "D9: key");
        }
    }

    function invariant_D10_onlyTransfersChangeTheRegistrant() external view {
        DeviceRegistryHandler.Thing[] memory things = _handler.things();
        for (uint256 i = 0; i < things.length; ++i) {
            IDeviceRegistry.Generation[] memory all = _registry.generations(things[i].number);
            bytes32 name = _handler.partyAt(things[i].registrant).name;
            require(all.length == things[i].versions && all[0].registrant == name, "D10");
            require(all[0].fromBlock == things[i].block && all[0].toBlock == 0, "D10: block");
            for (uint256 j = 1; j < all.length; ++j) require(all[j].toBlock == all[j - 1].fromBlock, "D10: blocks");
            require(_registry.device(things[i].number).registrant == name, "D10: device");
        }
    }

    function invariant_D11_bansAreThoseOfTheirParty() external view {
        DeviceRegistryHandler.Thing[] memory things = _handler.things();
        for (uint256 i = 0; i < things.length; ++i) {
            IDeviceRegistry.Device memory found = _registry.device(things[i].number);
            require(found.ban == things[i].ban, "D11");
            require((found.bannedAt != 0) == (found.ban != IDeviceRegistry.Ban.None), "D11: time");
        }
    }

    function invariant_D12_batchesStay() external view {
        DeviceRegistryHandler.Lot[] memory lots = _handler.lots();
        for (uint256 i = 0; i < lots.length; ++i) {
            IDeviceRegistry.Batch memory found = _registry.batchOf(lots[i].first + lots[i].count - 1);
            require(found.first == lots[i].first && found.count == lots[i].count, "D12");
            require(found.root == lots[i].root, "D12: root");
            require(found.registrant == _handler.partyAt(lots[i].registrant).name, "D12: registrant");
            require(found.specHash == keccak256(bytes(_handler.modelAt(lots[i].spec).name)), "D12: spec");
        }
    }

    function invariant_D13_theOwnerIsTheLastThatAccepted() external view {
        require(_registry.owner() == _handler.owner() && _registry.pendingOwner() == address(0), "D13");
    }

    /// @notice The pages of 300 numbers have every device once, in the order of their numbers.
    function invariant_D15_pagesHaveEveryDeviceOnce() external view {
        DeviceRegistryHandler.Thing[] memory things = _handler.things();
        for (uint64 page = 1; page < 3; ++page) {
            (uint64 from, uint256 count) = (page * 300, 0);
            for (uint256 i = 0; i < things.length; ++i) if (things[i].number / 300 == page) ++count;
            DeviceRegistryHandler.Lot[] memory lots = _handler.lots();
            for (uint256 i = 0; i < lots.length; ++i) {
                for (uint64 j = 0; j < lots[i].count; ++j) if ((lots[i].first + j) / 300 == page) ++count;
            }
            IDeviceRegistry.Device[] memory found = _registry.devices(from, 300);
            require(found.length == count, "D15: count");
            for (uint256 i = 1; i < count; ++i) require(found[i].number > found[i - 1].number, "D15: order");
        }
    }

    function _step(uint256 action, uint256 who, uint256 which, uint256 seed) private {
        action %= 20;
        if (action == 0) _handler.admit(who, which, seed, seed >> 8);
        else if (action == 1) _handler.setSuspended(who, which, seed % 8 == 0);
        else if (action == 2) _handler.setAccount(who, which, seed);
        else if (action == 3) _handler.registerSpec(who, which, seed);
        else if (action == 4) _handler.importSpec(who, which, seed);
        else if (action == 5) _handler.setAllowed(who, which, seed, seed % 8 < 5);
        else if (action == 6) _handler.giveBlocks(who, which, seed);
        else if (action == 7) _handler.replaceSite(who, which, seed);
        else if (action < 11) _handler.register(which, seed >> 128, seed, who);
        else if (action < 13) _handler.importThing(who, which, seed >> 128, seed);
        else if (action == 13) _handler.registerBatch(who, which, seed, uint64(seed >> 64));
        else if (action == 14) _handler.setKey(who, which, seed);
        else if (action == 15) _handler.transfer(who, which, seed);
        else if (action < 18) _handler.setBanned(who, which, seed % 2 == 0);
        else if (action == 18) _handler.handOver();
        else _handler.roll();
    }

    function _hexText(bytes memory data) private pure returns (bytes memory text) {
        bytes memory digits = "0123456789abcdef";
        text = new bytes(2 * data.length);
        for (uint256 i = 0; i < data.length; ++i) {
            text[2 * i] = digits[uint8(data[i]) >> 4];
            text[2 * i + 1] = digits[uint8(data[i]) & 15];
        }
    }
}
