// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";
import {ForgeTest, IWholeBlockOTA} from "./Forge.sol";

/// @title Cheat codes of Foundry that only the event tests use
interface VmEvents {
    /// @notice Expects the next call to emit the event emitted next here, with equal topics and data, from `emitter`.
    function expectEmit(address emitter) external;
}

/// @title Events of agreements whose broker did not sign the transaction, such as a contract account
contract Events is ForgeTest {
    VmEvents private constant EVENTS = VmEvents(address(vm));
    bytes32 private constant PRODUCT = "acme-thermo2";
    uint64 private constant VERSION = 7;
    uint40 private constant EXPIRY = 1_800_000_000;
    address private constant BROKER = address(0xB);
    string private constant URI = "https://broker.example";

    IFirmwareReplication private _replication;

    function setUp() external {
        vm.warp(1_700_000_000);
        IWholeBlockOTA record = _deployBlockOTA(address(this));
        record.pairOem(PRODUCT, "ACME", 0x0410, 0x0800_0000, 0x1_0000);
        IBlockOTA.Release[] memory releases = new IBlockOTA.Release[](1);
        (releases[0].product, releases[0].version, releases[0].sha256) = (PRODUCT, VERSION, keccak256("image"));
        (releases[0].loadAddress, releases[0].size) = (0x0800_0000, 1);
        record.publish(releases);
        bytes memory argument = abi.encode(record);
        _replication = IFirmwareReplication(_deploy("FirmwareReplication", argument));
    }

    function test_R1_theBrokerIsWhoCalled() external {
        require(msg.sender != BROKER && tx.origin != BROKER, "signed by the broker");
        EVENTS.expectEmit(address(_replication));
        emit IFirmwareReplication.AgreementProposed(1, PRODUCT, BROKER, VERSION, EXPIRY);
        _propose();

        EVENTS.expectEmit(address(_replication));
        emit IFirmwareReplication.AgreementAccepted(1, PRODUCT, BROKER, VERSION);
        _replication.accept(1, BROKER, PRODUCT, VERSION, EXPIRY);

        EVENTS.expectEmit(address(_replication));
        emit IFirmwareReplication.ReplicaAnnounced(1, PRODUCT, BROKER, VERSION, URI);
        vm.prank(BROKER);
        _replication.announce(1, PRODUCT, VERSION, URI);

        EVENTS.expectEmit(address(_replication));
        emit IFirmwareReplication.AgreementTerminated(1, PRODUCT, BROKER, VERSION);
        _replication.terminate(1, BROKER, PRODUCT, VERSION, EXPIRY);
    }

    function test_R1_aProposalIsDeclinedOrWithdrawn() external {
        _propose();
        EVENTS.expectEmit(address(_replication));
        emit IFirmwareReplication.AgreementDeclined(1, PRODUCT, BROKER, VERSION);
        _replication.decline(1, BROKER, PRODUCT, VERSION, EXPIRY);

        _propose();
        EVENTS.expectEmit(address(_replication));
        emit IFirmwareReplication.AgreementWithdrawn(2, PRODUCT, BROKER, VERSION);
        vm.prank(BROKER);
        _replication.withdraw(2, PRODUCT, VERSION);
    }

    function test_R5_anExpiredAgreementIsNotAnnounced() external {
        _propose();
        _replication.accept(1, BROKER, PRODUCT, VERSION, EXPIRY);
        vm.warp(EXPIRY);
        bytes memory refusal = abi.encodeWithSelector(IFirmwareReplication.AgreementExpired.selector, 1, EXPIRY);
        bytes memory call = abi.encodeCall(IFirmwareReplication.announce, (1, PRODUCT, VERSION, URI));
        _expect(BROKER, address(_replication), call, refusal);
    }

    function _propose() private {
        vm.prank(BROKER);
        _replication.propose(PRODUCT, VERSION, EXPIRY);
    }
}
